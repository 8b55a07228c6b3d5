"""What a corpus consists of: its parts, how long their texts are, and of what they speak, as a page and as files."""
