"""Annotated images: COCO's objects, Pascal VOC's XML and its dialects, DOTA's rotated boxes, masks, CSV files of boxes.

Every reader takes (path, root, source) and its own options, and yields an `Item` with `things` for each image, or a
`Fault`: path of the file or folder, the folder that paths of images are relative to, and the name of the source.
"""
