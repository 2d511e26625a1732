"""The lake: published assets, their manifests, and everything else that the two planes share."""
