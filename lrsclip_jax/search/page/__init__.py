"""The page of an archive: a search field, results, a map, and the same answers for programs.

lrsclip serve INDEX
"""
