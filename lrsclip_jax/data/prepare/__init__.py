"""The command that turns a source into a prepared set: `lrsclip prepare`."""
