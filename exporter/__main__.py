import os
import sys

from exporter.cli import main

code = main()
sys.stdout.flush()
sys.stderr.flush()
os._exit(code)  # nothing is left to do, and taking torch and gigabytes of weights apart takes seconds
