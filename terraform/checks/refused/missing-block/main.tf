# refused: At least 1 "vpc_config" blocks are required.
resource "aws_eks_cluster" "main" {
  name     = "main"
  role_arn = "arn:aws:iam::123456789012:role/cluster"
}
