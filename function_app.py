"""The Function App: registers the blueprint of every function that it serves, nothing else."""

import azure.functions as func

from functions.blueprints import blueprints

app = func.FunctionApp()
for blueprint in blueprints():
    app.register_functions(blueprint)
