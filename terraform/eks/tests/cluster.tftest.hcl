# With mocked providers: nothing is read from AWS or made there.

mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
  mock_data "aws_route53_zone" {
    defaults = { arn = "arn:aws:route53:::hostedzone/Z123" }
  }
}

variables {
  region = "eu-central-1"
}

run "defaults_give_a_private_cluster_in_auto_mode" {
  assert {
    condition     = aws_eks_cluster.main.compute_config[0].enabled && aws_eks_cluster.main.kubernetes_network_config[0].elastic_load_balancing[0].enabled && aws_eks_cluster.main.storage_config[0].block_storage[0].enabled
    error_message = "Auto Mode is compute, load balancing and storage together."
  }
  assert {
    condition     = aws_eks_cluster.main.vpc_config[0].endpoint_private_access && !aws_eks_cluster.main.vpc_config[0].endpoint_public_access
    error_message = "Without api_allowed_cidrs the API must have no public address."
  }
  assert {
    condition     = aws_eks_cluster.main.deletion_protection
    error_message = "The cluster must be protected from deletion."
  }
  assert {
    condition     = length(aws_eks_addon.external_dns) == 0 && length(aws_iam_role.external_dns) == 0
    error_message = "Without a zone there is nothing for external-dns to do."
  }
}

run "subnets_do_not_overlap_and_tell_load_balancers_where_to_go" {
  assert {
    condition     = [for subnet in aws_subnet.private : subnet.cidr_block] == ["10.42.0.0/20", "10.42.16.0/20", "10.42.32.0/20"]
    error_message = "private subnets: ${join(", ", [for subnet in aws_subnet.private : subnet.cidr_block])}"
  }
  assert {
    condition     = [for subnet in aws_subnet.public : subnet.cidr_block] == ["10.42.240.0/24", "10.42.241.0/24", "10.42.242.0/24"]
    error_message = "public subnets: ${join(", ", [for subnet in aws_subnet.public : subnet.cidr_block])}"
  }
  assert {
    condition     = alltrue([for subnet in aws_subnet.public : subnet.tags["kubernetes.io/role/elb"] == "1"]) && alltrue([for subnet in aws_subnet.private : subnet.tags["kubernetes.io/role/internal-elb"] == "1"])
    error_message = "Auto Mode finds the subnets of load balancers by these tags."
  }
}

run "each_zone_has_its_own_way_out" {
  command = apply

  assert {
    condition     = length(aws_nat_gateway.main) == 3 && length(distinct([for route in aws_route.nat : route.nat_gateway_id])) == 3
    error_message = "A zone that fails must not take the others' way out with it."
  }
}

run "one_nat_gateway_can_serve_all" {
  command = apply

  variables {
    nat_gateway_per_zone = false
  }

  assert {
    condition     = length(aws_nat_gateway.main) == 1 && length(aws_route.nat) == 3
    error_message = "One gateway, and a route to it from each zone."
  }
}

run "the_operator_reads_only_secrets_that_name_a_portal" {
  variables {
    portals = [{ namespace = "team-a", name = "hardware" }, { namespace = "team-b", name = "gpus" }]
  }

  assert {
    condition     = data.aws_iam_policy_document.operator.statement[0].actions == toset(["secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue"])
    error_message = "The operator reads; it neither lists nor writes secrets."
  }
  assert {
    condition     = [for each in data.aws_iam_policy_document.operator.statement[0].condition : "${each.test} ${each.variable} ${join(",", each.values)}"] == ["StringLike secretsmanager:ResourceTag/gill-hicks.dev/allow-portal team-a/hardware,team-a/hardware *,* team-a/hardware,* team-a/hardware *,team-b/gpus,team-b/gpus *,* team-b/gpus,* team-b/gpus *"]
    error_message = "The tag's value is NAMESPACE/NAME of a portal of this cluster, alone or among others."
  }
  assert {
    condition     = { for key, each in aws_eks_pod_identity_association.hardware : key => "${each.namespace}/${each.service_account}" } == { "team-a/hardware" = "team-a/hardware-hardware", "team-b/gpus" = "team-b/gpus-hardware" }
    error_message = "hardware's ServiceAccount is PORTAL-hardware in the portal's namespace."
  }
}

run "external_dns_writes_to_its_zone_only" {
  variables {
    dns_zone_name = "hardware.example.com"
  }

  assert {
    condition     = alltrue([for each in data.aws_iam_policy_document.external_dns[0].statement : each.actions == toset(["route53:ListHostedZones"]) || each.resources == toset(["arn:aws:route53:::hostedzone/Z123"])])
    error_message = "Only the list of zones may be asked for without naming the zone."
  }
  assert {
    condition     = jsondecode(aws_eks_addon.external_dns[0].configuration_values).domainFilters == ["hardware.example.com"]
    error_message = "external-dns must not look beyond its zone."
  }
}

run "a_public_api_needs_ranges" {
  variables {
    api_allowed_cidrs = ["203.0.113.7/32"]
  }

  assert {
    condition     = aws_eks_cluster.main.vpc_config[0].endpoint_public_access && aws_eks_cluster.main.vpc_config[0].public_access_cidrs == toset(["203.0.113.7/32"])
    error_message = "Exactly the given ranges reach the public address."
  }
}

run "the_whole_internet_is_refused" {
  command = plan

  variables {
    api_allowed_cidrs = ["0.0.0.0/0"]
  }

  expect_failures = [var.api_allowed_cidrs]
}

run "one_zone_is_refused" {
  command = plan

  variables {
    zones = ["a"]
  }

  expect_failures = [var.zones]
}

run "an_old_kubernetes_is_refused" {
  command = plan

  variables {
    kubernetes_version = "1.32"
  }

  expect_failures = [var.kubernetes_version]
}

run "a_portal_named_twice_is_refused" {
  command = plan

  variables {
    portals = [{ namespace = "a", name = "b" }, { namespace = "a", name = "b" }]
  }

  expect_failures = [var.portals]
}

run "rds_gets_what_it_needs" {
  command = apply

  assert {
    condition     = output.rds.vpc_id == aws_vpc.main.id && length(output.rds.private_subnet_ids) == 3 && output.rds.region == "eu-central-1" && output.rds.node_security_group_id != null
    error_message = "The output rds must hold every variable of terraform/rds that has no default."
  }
}
