# refused: An argument named "subnets" is not expected here.
resource "aws_eks_cluster" "main" {
  name     = "main"
  role_arn = "arn:aws:iam::123456789012:role/cluster"

  vpc_config {
    subnet_ids = ["subnet-1", "subnet-2"]
    subnets    = []
  }
}
