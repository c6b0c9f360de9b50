"""A toolbox for Rerun recordings: cameras, images, meshes, plots and splats."""
