"""The Function App: registers the functions that it serves, nothing else."""

import azure.functions as func

from functions.blueprints import blueprint

app = func.FunctionApp()
app.register_functions(blueprint())
