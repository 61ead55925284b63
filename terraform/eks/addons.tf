# What Auto Mode does not bring. Without a version EKS takes its default for the cluster's version.

# The autoscalers of both services read CPU from it.
resource "aws_eks_addon" "metrics_server" {
  cluster_name                = aws_eks_cluster.main.name
  addon_name                  = "metrics-server"
  resolve_conflicts_on_create = "OVERWRITE"
  resolve_conflicts_on_update = "OVERWRITE"
}

data "aws_route53_zone" "main" {
  count = var.dns_zone_name == null ? 0 : 1

  name         = var.dns_zone_name
  private_zone = false
}

resource "aws_eks_addon" "external_dns" {
  count = var.dns_zone_name == null ? 0 : 1

  cluster_name                = aws_eks_cluster.main.name
  addon_name                  = "external-dns"
  resolve_conflicts_on_create = "OVERWRITE"
  resolve_conflicts_on_update = "OVERWRITE"

  configuration_values = jsonencode({
    domainFilters = [var.dns_zone_name]
    policy        = "sync" # a portal that is deleted takes its name with it
    txtOwnerId    = var.name
  })

  pod_identity_association {
    role_arn        = aws_iam_role.external_dns[0].arn
    service_account = "external-dns"
  }

  depends_on = [aws_iam_role_policy.external_dns]
}
