"""Model folders: read, checked, put together, and written again after fine-tuning."""
