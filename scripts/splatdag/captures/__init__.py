"""Captures: photos of one static scene, their poses and the splats trained on them."""
