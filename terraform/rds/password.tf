# The master's password: RDS's own secret, or a generated one.

# RDS makes the secret; this tag lets the operator use it, for the portal that it names.
resource "aws_secretsmanager_tag" "allow_portal" {
  count = var.manage_master_user_password ? 1 : 0

  secret_id = aws_db_instance.main.master_user_secret[0].secret_arn
  key       = "gill-hicks.dev/allow-portal"
  value     = "${var.portal.namespace}/${var.portal.name}"
}

# A secret that RDS makes does not say which server it is for, and whoever writes the portal must not
# choose that. The operator sends the password to this host only.
resource "aws_secretsmanager_tag" "database_host" {
  count = var.manage_master_user_password ? 1 : 0

  secret_id = aws_db_instance.main.master_user_secret[0].secret_arn
  key       = "gill-hicks.dev/database-host"
  value     = aws_db_instance.main.address
}

# 32 characters (RDS: at most 41) without those that RDS refuses, / @ " and space, and without \ ' and `,
# which are easily quoted wrong.
resource "random_password" "master" {
  count = var.manage_master_user_password ? 0 : 1

  length           = 32
  min_lower        = 1
  min_upper        = 1
  min_numeric      = 1
  min_special      = 1
  override_special = "!#$%&*()-_=+[]{}<>:?"
  keepers          = { generation = var.password_generation }
}
