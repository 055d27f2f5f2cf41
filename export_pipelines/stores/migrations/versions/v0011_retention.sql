-- What the nightly cleanup looks for; both indexes hold only what it has yet to do or will have to.
CREATE INDEX export_requests_expiring ON export_control.export_requests (expires_at) WHERE status = 'completed';
CREATE INDEX export_requests_unremoved ON export_control.export_requests (id)
    WHERE objects_removed_at IS NULL AND (status = 'expired' OR deleted_at IS NOT NULL);
-- A tenant's exports by age, for its admins' own cleanup.
CREATE INDEX export_requests_age ON export_control.export_requests (tenant_id, completed_at) WHERE status = 'completed';
