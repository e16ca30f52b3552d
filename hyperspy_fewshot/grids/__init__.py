"""Where queries lie, and which data each of them needs."""
