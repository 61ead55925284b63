# refused: address is set by the provider and cannot be set here.
resource "aws_db_instance" "main" {
  instance_class = "db.t4g.medium"
  address        = "db.example.com"
}
