# refused: Inappropriate value for attribute "subnet_ids": set of string required.
resource "aws_db_subnet_group" "main" {
  subnet_ids = "subnet-1"
}
