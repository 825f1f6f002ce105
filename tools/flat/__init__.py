"""The flat run: processes under a steady load, then idle, watched for whatever grows."""
