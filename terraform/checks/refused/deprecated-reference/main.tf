# refused: It is deprecated: name is deprecated. Use region instead.
data "aws_region" "current" {}

output "region" {
  value = data.aws_region.current.name
}
