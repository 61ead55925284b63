"""What this product replaces, as far as the benchmark compares with it: the list, by the same framework and
driver, with the same query, and a connection for each request. The five seconds that each row took are left
out."""

import os
import random

from flask import Flask, jsonify
from flaskext.mysql import MySQL

app = Flask(__name__)
app.config["MYSQL_DATABASE_SOCKET"] = os.environ["MYSQL_SOCKET"]
app.config["MYSQL_DATABASE_USER"] = os.environ["MYSQL_USER"]
app.config["MYSQL_DATABASE_PASSWORD"] = os.environ["MYSQL_PASSWORD"]
app.config["MYSQL_DATABASE_DB"] = os.environ["MYSQL_DATABASE"]
# Over a socket the driver would make a TLS context for each connection, and not use it.
mysql = MySQL(app, ssl_disabled=True)


@app.route("/hardware/")
def hardware():
    connection = mysql.connect()
    try:
        cursor = connection.cursor()
        cursor.execute("SELECT * FROM hardware")
        rows = cursor.fetchall()
    finally:
        connection.close()
    levels = ["HIGH", "MEDIUM", "LOW"]
    return jsonify(
        [{"provider": row[1], "name": row[2], "availability": random.choice(levels)} for row in rows]
    )
