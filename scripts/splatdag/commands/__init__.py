"""Commands that belong to no single area: status, doctor, compare, reproduce, check_checkpoints, generate, …"""
