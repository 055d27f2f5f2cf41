"""The API under attack: a real server in a process of its own, real keys of every role, exports of two tenants."""
