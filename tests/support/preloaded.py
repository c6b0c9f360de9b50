"""Imports, of a process that others are forked from, of what is slow to import, but for modules run as `python -m`."""
# ruff: noqa: F401

import gc

import cv2
import matplotlib.pyplot
import numba
import pandas
import pycolmap
import rerun.blueprint
import scipy.spatial
import snakemake.cli
import torch
import torchmetrics
import tyro

import splatdag.areas
import splatdag.workflow.snakefile

snakemake.cli.get_argument_parser()  # finds plugins
gc.freeze()  # what is never written stays shared
