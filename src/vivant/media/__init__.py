"""Media that keeps time: pictures, video and sound in and out. The only package that knows file formats."""
