# refused: An argument named "multi_zone" is not expected here.
resource "aws_db_instance" "main" {
  instance_class = "db.t4g.medium"
  multi_zone     = true
}
