"""Plug-ins for other trainers; each needs that trainer installed and is imported by nothing else in the package."""
