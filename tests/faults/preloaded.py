"""What every driver would import, imported once."""

import ray
import torch
import transformers

import kdcache.extract.actor
import kdcache.extract.driver
import kdcache.extract.worker
import kdcache.store
import kdcache.teacher

__all__ = ["kdcache", "ray", "torch", "transformers"]
