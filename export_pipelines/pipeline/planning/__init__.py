"""What can be decided before a run begins: plans, estimates, schedules, which job a request needs."""
