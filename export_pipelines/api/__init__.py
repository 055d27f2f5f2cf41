"""The HTTP side for tenants: today the pages behind download links."""
