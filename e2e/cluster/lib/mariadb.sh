# shellcheck shell=bash
# A MariaDB of our own that stands in for RDS: TLS only, an administrator with
# no more rights than RDS gives, and an application account. Needs no cluster.

mariadb_is_running() { process_is_running mariadb; }

mariadb_socket=$run/mariadb/socket/mysqld.sock

mariadb_setting() { sed -n "s/^$1=//p" "$run/mariadb/env"; }

mariadb_up() { # --listen ADDRESS, --port PORT
  local listen=$host_address port=3306
  while (($# > 0)); do
    case $1 in
    --listen) listen=${2:?--listen needs an address} ;;
    --port) port=${2:?--port needs a number} ;;
    *) fail "mariadb-up does not know $1" ;;
    esac
    shift 2
  done
  install_packages
  if mariadb_is_running; then
    local running
    running=$(mariadb_setting MYSQL_HOST):$(mariadb_setting MYSQL_PORT)
    if [[ $running == "$listen:$port" ]]; then
      say "MariaDB is up on $running; see $run/mariadb/env"
      return
    fi
    say "MariaDB listens on $running: it is moved, and what an earlier test left in it goes"
    mariadb_down
  fi
  ip -oneline address show to "$listen" | grep -q . ||
    fail "this machine has no address $listen: run 'cluster up' first, or give --listen 127.0.0.1"
  if ss -Hltn "src $listen and sport = :$port" | grep -q .; then
    fail "something else listens on port $port of $listen: give another --port"
  fi

  remove_mariadb_files
  install -d -m 711 "$run" "$data"
  install -d -m 755 "$logs" "$run/mariadb" "$data/mariadb"
  install -d -o mysql -g mysql -m 700 "$data/mariadb/data" "$data/mariadb/tls"
  install -d -o mysql -g mysql -m 755 "$run/mariadb/socket"
  create_mariadb_certificates "$listen"
  render "$here/config/mariadb.cnf" listen port mariadb_socket >"$data/mariadb/my.cnf"
  if ! mariadb-install-db --defaults-file="$data/mariadb/my.cnf" --user=mysql \
    --auth-root-authentication-method=socket --skip-test-db >"$logs/mariadb-install.log" 2>&1; then
    fail_with_log "$logs/mariadb-install.log" "failed to create MariaDB's data folder"
  fi
  start_process mariadb mariadbd --defaults-file="$data/mariadb/my.cnf" --user=mysql
  wait_for 30 mariadb "MariaDB answers" mariadb_as_root --execute 'SELECT 1'
  create_mariadb_accounts "$listen" "$port"
  say "MariaDB is up on $listen:$port; see $run/mariadb/env"
}

mariadb_down() {
  stop_processes 10 mariadb
  remove_mariadb_files
  say "MariaDB is down and its data removed"
}

remove_mariadb_files() { rm -rf "${run:?}/mariadb" "${data:?}/mariadb"; }

mariadb_as_root() { mariadb --no-defaults --socket="$mariadb_socket" --user=root "$@"; }

create_mariadb_certificates() { # address
  local folder=$data/mariadb/tls pki=$data/mariadb/tls
  create_authority ca gill-hicks-mariadb
  create_certificate server mariadb.gill-hicks.test "" "DNS:mariadb.gill-hicks.test,DNS:localhost,IP:$1"
  chown mysql:mysql "$folder"/*
  install -m 644 "$folder/ca.crt" "$run/mariadb/ca.pem"
  # It has signed all that it ever will.
  rm "$folder/ca.key"
}

# Passwords go in by standard input and out by a file only root can read.
create_mariadb_accounts() { # address, port
  local application_password administrator_password
  application_password=$(openssl rand -hex 24)
  administrator_password=$(openssl rand -hex 24)
  mariadb_as_root <<EOF
CREATE DATABASE hardware CHARACTER SET utf8mb4;
CREATE USER 'app'@'%' IDENTIFIED BY '$application_password' REQUIRE SSL;
GRANT ALL PRIVILEGES ON hardware.* TO 'app'@'%';
CREATE USER 'admin'@'%' IDENTIFIED BY '$administrator_password' REQUIRE SSL;
-- What "Master user account privileges" in the RDS user guide lists for MariaDB 10.11.
GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, RELOAD, PROCESS, REFERENCES, INDEX,
  ALTER, SHOW DATABASES, CREATE TEMPORARY TABLES, LOCK TABLES, EXECUTE,
  REPLICATION CLIENT, CREATE VIEW, SHOW VIEW, CREATE ROUTINE, ALTER ROUTINE,
  CREATE USER, EVENT, TRIGGER, REPLICATION SLAVE
  ON *.* TO 'admin'@'%' WITH GRANT OPTION;
EOF
  (
    umask 077
    cat >"$run/mariadb/env" <<EOF
MYSQL_HOST=$1
MYSQL_PORT=$2
MYSQL_DATABASE=hardware
MYSQL_USER=app
MYSQL_PASSWORD=$application_password
MYSQL_TLS_CA_FILE=$run/mariadb/ca.pem
MARIADB_ADMIN_USER=admin
MARIADB_ADMIN_PASSWORD=$administrator_password
MARIADB_ROOT_SOCKET=$mariadb_socket
MARIADB_LOG=$logs/mariadb.log
EOF
  )
}
