"""Operating a center: its folder, certificates, processes, registered sites and runs."""
