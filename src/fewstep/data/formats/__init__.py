"""Readers of published archives: folders of images, captioned pictures in tars or in folders."""
