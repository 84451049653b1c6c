"""The formats of recorded sessions, a file each with its signs and its reader, as `FORMAT`; a new one is a new file."""
