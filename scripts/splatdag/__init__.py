"""splatdag: one Snakemake DAG from photos, images, driving logs and videos of people to Gaussian splats."""
