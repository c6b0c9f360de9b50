"""Files whose formats others define: photos, COLMAP models, transforms.json, images and videos; no torch."""
