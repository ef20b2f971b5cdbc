"""Settings of the project: its database is the one that has the jobs."""

from psycopg.conninfo import conninfo_to_dict

from pgtasks import current_app

# Where pgtasks is, be it embedded. A project that has its database here gives pgtasks the same one, by
# PGTASKS_DATABASE_URL.
_where = conninfo_to_dict(current_app().database.conninfo)

DATABASES = {
    "default": {"ENGINE": "django.db.backends.postgresql", "NAME": _where.pop("dbname", ""), "OPTIONS": _where}
}
INSTALLED_APPS = ["orders"]
ROOT_URLCONF = "shop.urls"
SECRET_KEY = "for the example only"
ALLOWED_HOSTS = ["testserver"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
