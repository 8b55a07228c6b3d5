"""Corpora of captioned images in the files that their authors published: VHM, RS5M, RemoteCLIP, and LRS2M's shape.

Every reader takes (path, root, source) and its own options, and yields an `Item` for each image, or a `Fault`: path of
the file or folder, the folder that paths of images are relative to, and the name of the source.
"""
