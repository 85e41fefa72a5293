"""The application for Celery's own commands, such as ``celery -A worker inspect active``.

The one module that reads the environment when it is imported: Celery's command line wants it so.
"""

from worker.app import create_app
from worker.settings import load_settings

app = create_app(load_settings())
