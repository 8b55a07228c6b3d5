"""The one door for captioned images: recognises what a path is, and reads it as a stream of items and faults."""
