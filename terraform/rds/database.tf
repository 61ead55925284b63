resource "aws_db_instance" "main" {
  # checkov:skip=CKV_AWS_161:Nobody logs in by IAM: the operator uses the master's password and makes accounts of its own. Turned on, rds-db:connect would be a second way in.
  # checkov:skip=CKV_AWS_353:It is on wherever the instance class has it; checkov does not evaluate local.performance_insights.

  identifier = var.name

  engine                     = "mysql"
  engine_version             = "8.4" # the minor version is AWS's choice and moves in the maintenance window
  auto_minor_version_upgrade = true
  parameter_group_name       = aws_db_parameter_group.main.name
  instance_class             = var.instance_class
  multi_az                   = var.multi_az

  db_name                     = var.database
  port                        = var.port
  username                    = var.username
  manage_master_user_password = var.manage_master_user_password ? true : null # the provider refuses false beside a password
  password                    = var.manage_master_user_password ? null : random_password.master[0].result

  db_subnet_group_name   = aws_db_subnet_group.main.name
  vpc_security_group_ids = [aws_security_group.database.id]
  publicly_accessible    = false

  storage_type          = "gp3"
  storage_encrypted     = true
  kms_key_id            = aws_kms_key.main.arn
  allocated_storage     = var.storage_gib.initial
  max_allocated_storage = var.storage_gib.maximum

  # UTC. Backups before maintenance, so that a bad upgrade can be undone.
  backup_retention_period   = var.backup_retention_days
  backup_window             = "02:00-03:00"
  maintenance_window        = "sun:03:30-sun:04:30"
  copy_tags_to_snapshot     = true
  delete_automated_backups  = false
  deletion_protection       = var.deletion_protection
  skip_final_snapshot       = false
  final_snapshot_identifier = "${var.name}-last"

  enabled_cloudwatch_logs_exports = keys(aws_cloudwatch_log_group.database)
  monitoring_interval             = 60
  monitoring_role_arn             = aws_iam_role.monitoring.arn
  database_insights_mode          = "standard"
  performance_insights_enabled    = local.performance_insights
  performance_insights_kms_key_id = local.performance_insights ? aws_kms_key.main.arn : null

  depends_on = [aws_iam_role_policy_attachment.monitoring]
}

locals {
  performance_insights = !can(regex("\\.(micro|small)$", var.instance_class))
}

resource "aws_db_parameter_group" "main" {
  name        = "${var.name}-mysql-8-4"
  family      = "mysql8.4"
  description = "TLS for everyone, and slow queries into the log"

  # Refuses every connection without TLS, the master's too.
  parameter {
    name  = "require_secure_transport"
    value = "1"
  }
  parameter {
    name         = "tls_version"
    value        = "TLSv1.2,TLSv1.3"
    apply_method = "pending-reboot"
  }

  parameter {
    name  = "log_output"
    value = "FILE"
  }
  parameter {
    name  = "slow_query_log"
    value = "1"
  }
  parameter {
    name  = "long_query_time"
    value = "1"
  }
}

resource "aws_db_subnet_group" "main" {
  name        = var.name
  description = "The cluster's private subnets"
  subnet_ids  = var.private_subnet_ids
}

resource "aws_security_group" "database" {
  name        = "${var.name}-database"
  description = "MySQL, from the nodes of the cluster only"
  vpc_id      = var.vpc_id

  tags = { Name = "${var.name}-database" }
}

# The one rule. None lets anything out: the database calls nobody.
resource "aws_vpc_security_group_ingress_rule" "nodes" {
  security_group_id            = aws_security_group.database.id
  description                  = "MySQL from the nodes of the cluster"
  referenced_security_group_id = var.node_security_group_id
  ip_protocol                  = "tcp"
  from_port                    = var.port
  to_port                      = var.port
}
