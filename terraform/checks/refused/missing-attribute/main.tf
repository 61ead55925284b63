# refused: The argument "role_arn" is required, but no definition was found.
resource "aws_eks_cluster" "main" {
  name = "main"

  vpc_config {
    subnet_ids = ["subnet-1", "subnet-2"]
  }
}
