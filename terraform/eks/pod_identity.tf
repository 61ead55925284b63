# What pods may do in AWS: one role for each of the operator, hardware and external-dns, handed out by
# EKS Pod Identity to exactly one ServiceAccount name. Nothing else in the cluster has rights in AWS.

locals {
  # Written out, because the roles are needed before there is a cluster to ask.
  cluster_arn = "arn:${local.partition}:eks:${var.region}:${local.account_id}:cluster/${var.name}"
}

# Each role says itself whose it is, so that a wrong association cannot hand it to another pod.
data "aws_iam_policy_document" "pod_trust" {
  for_each = {
    operator     = ["gill-hicks-operator"]
    hardware     = distinct([for portal in var.portals : "${portal.name}-hardware"])
    external-dns = ["external-dns"]
  }

  statement {
    actions = ["sts:AssumeRole", "sts:TagSession"]

    principals {
      type        = "Service"
      identifiers = ["pods.eks.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:RequestTag/eks-cluster-arn"
      values   = [local.cluster_arn]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:RequestTag/kubernetes-service-account"
      values   = each.value
    }
  }
}

# The operator: read the secrets whose tag gill-hicks.dev/allow-portal names a portal of this cluster,
# alone or among others that are separated by spaces.
resource "aws_iam_role" "operator" {
  name               = "${var.name}-operator"
  assume_role_policy = data.aws_iam_policy_document.pod_trust["operator"].json
}

resource "aws_iam_role_policy" "operator" {
  name   = "read-allowed-secrets"
  role   = aws_iam_role.operator.id
  policy = data.aws_iam_policy_document.operator.json
}

data "aws_iam_policy_document" "operator" {
  statement {
    actions   = ["secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue"]
    resources = ["arn:${local.partition}:secretsmanager:${var.region}:${local.account_id}:secret:*"]

    condition {
      test     = "StringLike"
      variable = "secretsmanager:ResourceTag/gill-hicks.dev/allow-portal"
      values = flatten([for portal in var.portals : [
        for pattern in ["%s", "%s *", "* %s", "* %s *"] : format(pattern, "${portal.namespace}/${portal.name}")
      ]])
    }
  }
}

resource "aws_eks_pod_identity_association" "operator" {
  cluster_name    = aws_eks_cluster.main.name
  namespace       = "gill-hicks-system"
  service_account = "gill-hicks-operator"
  role_arn        = aws_iam_role.operator.arn
}

# hardware: what EC2 offers and what is reserved. Neither call can be narrowed to a resource.
resource "aws_iam_role" "hardware" {
  name               = "${var.name}-hardware"
  assume_role_policy = data.aws_iam_policy_document.pod_trust["hardware"].json
}

resource "aws_iam_role_policy" "hardware" {
  name   = "look-at-offers"
  role   = aws_iam_role.hardware.id
  policy = data.aws_iam_policy_document.hardware.json
}

data "aws_iam_policy_document" "hardware" {
  statement {
    actions   = ["ec2:DescribeCapacityReservations", "ec2:DescribeInstanceTypeOfferings"]
    resources = ["*"]

    condition {
      test     = "StringEquals"
      variable = "aws:RequestedRegion"
      values   = length(var.observed_regions) > 0 ? var.observed_regions : [var.region]
    }
  }
}

resource "aws_eks_pod_identity_association" "hardware" {
  for_each = { for portal in var.portals : "${portal.namespace}/${portal.name}" => portal }

  cluster_name    = aws_eks_cluster.main.name
  namespace       = each.value.namespace
  service_account = "${each.value.name}-hardware"
  role_arn        = aws_iam_role.hardware.arn
}

# external-dns: the records of its one zone. Its add-on makes the association.
resource "aws_iam_role" "external_dns" {
  count = var.dns_zone_name == null ? 0 : 1

  name               = "${var.name}-external-dns"
  assume_role_policy = data.aws_iam_policy_document.pod_trust["external-dns"].json
}

resource "aws_iam_role_policy" "external_dns" {
  count = var.dns_zone_name == null ? 0 : 1

  name   = "write-one-zone"
  role   = aws_iam_role.external_dns[0].id
  policy = data.aws_iam_policy_document.external_dns[0].json
}

data "aws_iam_policy_document" "external_dns" {
  count = var.dns_zone_name == null ? 0 : 1

  statement {
    actions   = ["route53:ChangeResourceRecordSets"]
    resources = [data.aws_route53_zone.main[0].arn]

    # Addresses, and the TXT records by which external-dns knows its own: no NS, no MX, no CAA.
    condition {
      test     = "ForAllValues:StringEquals"
      variable = "route53:ChangeResourceRecordSetsRecordTypes"
      values   = ["A", "AAAA", "CNAME", "TXT"]
    }
  }
  statement {
    actions   = ["route53:ListResourceRecordSets", "route53:ListTagsForResource"]
    resources = [data.aws_route53_zone.main[0].arn]
  }
  # The list of zones cannot be narrowed; it holds names, no records.
  statement {
    actions   = ["route53:ListHostedZones"]
    resources = ["*"]
  }
}
