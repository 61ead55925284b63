# refused: This object has no argument, nested block, or exported attribute named "endpoint_address".
resource "aws_db_instance" "main" {
  instance_class = "db.t4g.medium"
}

output "MYSQL_HOST" {
  value = aws_db_instance.main.endpoint_address
}
