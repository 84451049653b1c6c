"""Numbers that leave as files: of any reading, and of any figure.

    export.to_netcdf(ds, "memory.nc"); ds = export.open_netcdf("memory.nc")
    export.to_csv(ds, "memory.csv")

In this folder:

    netcdf      a dataset as netCDF 3, which opens again equal
    table       a dataset as CSV, a row for every point
    attributes  attributes as JSON, with their types
    given       what is written: a dataset, or the numbers behind a figure
"""

from labkit.export.netcdf import open_netcdf, to_netcdf
from labkit.export.table import to_csv

__all__ = ["open_netcdf", "to_csv", "to_netcdf"]


def __dir__():
    return sorted(__all__)
