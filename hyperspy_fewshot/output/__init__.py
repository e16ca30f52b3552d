"""What a user sees and keeps: label map signals, metadata, pictures and files."""
