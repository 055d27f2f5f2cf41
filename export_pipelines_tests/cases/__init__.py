"""Small source databases that once went wrong, each standing for a kind of fault; `host_of` in `..host` loads one."""
