"""Labels a folder of pictures: boxes and masks in COCO's form, from a model of this process or of a server."""
