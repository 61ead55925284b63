# refused: The provider hashicorp/aws does not support resource type "aws_eks_clutser"
resource "aws_eks_clutser" "main" {
  name = "typo"
}
