"""execute → stored → published → projected in another process: commands per second, end to end."""
