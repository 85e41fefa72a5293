"""GPUs: what NVML says of them, whether one has room for a job, the pool of workers, and the report.

Only ``nvml`` talks to the driver, and nothing here initialises CUDA. Light: gateway and ops may import it.
"""
