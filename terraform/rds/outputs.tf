# What the operator reads from this root's state (spec.database.mysql.source.terraformState). terraform
# leaves an output that is null out of the state.

output "MYSQL_HOST" {
  description = "Address of the database, without the port."
  value       = aws_db_instance.main.address
}

output "MYSQL_PORT" {
  description = "TCP port of the database."
  value       = aws_db_instance.main.port
}

output "MYSQL_USER" {
  description = "The master account."
  value       = aws_db_instance.main.username
}

output "MYSQL_DATABASE" {
  description = "Name of the schema."
  value       = aws_db_instance.main.db_name
}

output "MYSQL_PASSWORD_SECRET_ARN" {
  description = "The secret of the master account in Secrets Manager, if RDS manages its password."
  value       = var.manage_master_user_password ? aws_db_instance.main.master_user_secret[0].secret_arn : null

  # So that whoever reads the ARN may read the secret.
  depends_on = [aws_secretsmanager_tag.allow_portal, aws_secretsmanager_tag.database_host]
}

output "MYSQL_PASSWORD" {
  description = "The password of the master account, if terraform generated it."
  value       = var.manage_master_user_password ? null : random_password.master[0].result
  sensitive   = true
}
