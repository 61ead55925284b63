# The master's password: RDS's own secret, or a generated one.

# RDS makes the secret; these tags are what lets the operator use it: for which portal, and at which
# host, as RDS keeps none in it.
resource "aws_secretsmanager_tag" "allow_portal" {
  count = var.manage_master_user_password ? 1 : 0

  secret_id = aws_db_instance.main.master_user_secret[0].secret_arn
  key       = "gill-hicks.dev/allow-portal"
  value     = "${var.portal.namespace}/${var.portal.name}"
}

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
