# refused: No more than 1 "vpc_config" blocks are allowed
resource "aws_eks_cluster" "main" {
  name     = "main"
  role_arn = "arn:aws:iam::123456789012:role/cluster"

  vpc_config {
    subnet_ids = ["subnet-1"]
  }
  vpc_config {
    subnet_ids = ["subnet-2"]
  }
}
