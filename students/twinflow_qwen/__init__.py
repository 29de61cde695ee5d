"""TwinFlow-Qwen-Image, a family of students; see family.py."""
